"""What two notebooks of the study share, and nothing else: seventeen packages, mapped in docs/map.md."""
