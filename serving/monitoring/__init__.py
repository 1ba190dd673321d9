"""What a server counts, and the page that monitoring reads it from."""
