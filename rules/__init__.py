"""What it means: conditions, alarms, decisions.

Pure: `(state, input, now) -> decision`, the same for live traffic, rule tests, recovery and backtests.
"""
