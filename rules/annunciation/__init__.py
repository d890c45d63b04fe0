"""Of which alarms people are told by themselves, and which stand quietly on the board (ISA-18.2, ADR 0018)."""
