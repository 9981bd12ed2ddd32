"""From a gold and an answer that was read to a `types.Grade`: maths, question answering, code, and the tiers."""
