"""What all packages share; it imports none of them."""
