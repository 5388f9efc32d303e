"""Write questions.gift, which Moodle imports, and the page questions.md, from questions.toml."""

import re
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ORIGIN = "Made by questions.py from questions.toml."


def load() -> list[dict[str, Any]]:
    text = FOLDER.joinpath("questions.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["question"]  # type: ignore[no-any-return]


def gift(questions: list[dict[str, Any]]) -> str:
    """The questions in Moodle's GIFT format; the feedback on a wrong answer is its slip."""
    parts = [f"// {ORIGIN}"]
    for number, question in enumerate(questions, 1):
        lines = [
            f"::{number:02} {escaped(question['name'])}::{escaped(question['text'])} {{",
            f"\t={escaped(question['answer'])}#{escaped(question['why'])}",
            *(f"\t~{escaped(answer)}#{escaped(slip)}" for answer, slip, *_ in question["wrong"]),
            "}",
        ]
        parts += [f"$CATEGORY: npaae/Session {question['session']}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text in which the characters that mean something in GIFT stand for themselves."""
    return re.sub(r"([~=#{}:\\])", r"\\\1", text)


def page(questions: list[dict[str, Any]]) -> str:
    """The questions as a page: the right answer in bold, and the slip behind each wrong one."""
    lines, session = ["# Thirty questions", "", ORIGIN], 0
    for number, question in enumerate(questions, 1):
        if session != question["session"]:
            session = question["session"]
            lines += ["", f"## Session {session}"]
        lines += ["", f"**{number}. {question['text']}**", ""]
        lines += [f"- **{question['answer']}**: {question['why']}"]
        lines += [f"- {answer}: *{slip}*" for answer, slip, *_ in question["wrong"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FOLDER.joinpath("questions.gift").write_text(gift(load()), encoding="utf-8")
    FOLDER.joinpath("questions.md").write_text(page(load()), encoding="utf-8")
