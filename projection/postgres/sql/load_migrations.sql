-- The migrations that were applied, in order, and whether workers of the release before each may continue after it.
select name, compatible
from os_core.migrations
order by name
