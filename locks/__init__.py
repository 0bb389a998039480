"""Lock files, and the programs that write and install them."""
