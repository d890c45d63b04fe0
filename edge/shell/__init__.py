"""What is said at the shell: a module for each verb of `anlin`, and how its answer reads."""
