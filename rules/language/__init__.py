"""Conditions and texts as people write them: from the words in a rule file to closures over three-valued logic."""
