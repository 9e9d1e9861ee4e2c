"""The real worker under a seeded scheduler, its edges replaced by models of broker, database and cache."""
