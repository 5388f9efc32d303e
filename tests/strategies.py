"""What the property tests draw: seeds and shapes, from which each test makes its own arrays."""

from hypothesis import settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)
shapes = st.tuples(sizes, sizes)
scales = st.sampled_from([0.01, 1.0, 100.0])
rates = st.floats(0, 0.95)


def some(share):
    """Decorates a property test whose cases are costly: it has this share of the usual number."""
    return settings(max_examples=round(share * settings.default.max_examples))
