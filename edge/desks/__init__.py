"""What the control socket can ask of the node, a desk for each subject."""
