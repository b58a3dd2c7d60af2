"""What was evaluated: recorded as sums that merge, asked for over time, compared, watched."""
