"""What the notebooks of the study compute with, draw with and store with: packages, mapped in docs/map.md."""
