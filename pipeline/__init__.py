"""What runs, in which order, and what it leaves behind."""
