"""What is judged, and against what: predictions of any system, the truth table, and the two joined slide by slide."""
