"""What one update of a training is. A step owns networks and optimisers and offers ``update``, ``state_dict`` and
``load_state_dict``; the loop around it stands in the notebook."""
