"""Studies of the attackers: their statistical power and their cost."""
