"""What two notebooks of the study share, and nothing else: fifteen packages, mapped in docs/map.md."""
