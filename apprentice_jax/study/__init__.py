"""A study: many training runs side by side, what they say together, and its report."""
