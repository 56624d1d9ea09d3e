"""The report of a move: what was moved, the evidence, where the time went, what writers noticed, and what is next. One HTML file."""
