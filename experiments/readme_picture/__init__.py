"""Picture of the README: drawn faces behind the mask, and what attackers read."""
