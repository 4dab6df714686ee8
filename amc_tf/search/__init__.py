"""The search: who decides how much of each unit is kept."""
