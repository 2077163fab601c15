"""How long each part takes here.  Run: make bench."""
