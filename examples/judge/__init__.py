"""The judge of `examples/homework.py`: what it asks of a student's code, and how it can trust it.

formula.py    formulas as plain text: their values, their derivatives, and common slips in them
sheets.py     a student's own four formulas, drawn by ID
graded.py     judges a solved sheet
practice.py   judges parts 1 to 4 by the rows of examples/audit.py
verdicts.py   what a wrong array says about the code that computed it
sandbox.py    the student's process, as the judge sees it
worker.py     the student's process, from inside
meter.py      what a student's code computes, counted
protocol.py   what the two say to each other
rules.py      what homework may import and name
"""
