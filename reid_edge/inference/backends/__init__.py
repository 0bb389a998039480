"""What runs model files: one runtime a file."""
