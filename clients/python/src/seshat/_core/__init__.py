"""What the two clients share. Nothing here is public."""
