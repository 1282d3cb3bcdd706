"""What two notebooks of the study share, and nothing else: see the map in README.md."""
