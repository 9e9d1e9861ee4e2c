"""The real worker under a seeded scheduler, its ports replaced by models of broker, database and cache."""
