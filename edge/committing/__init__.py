"""Group commit: from the open batch to the disk, what is told of it, and what is done about a store that fails."""
