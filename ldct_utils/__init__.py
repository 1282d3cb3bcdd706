"""What two notebooks of the study share, and nothing else: sixteen packages, mapped in docs/map.md."""
