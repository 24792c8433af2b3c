"""A page that shows what runs have found; opens from disk, fetches nothing."""
