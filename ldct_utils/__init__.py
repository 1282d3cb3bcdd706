"""What two notebooks of the study share, and nothing else: packages, mapped in docs/map.md."""
