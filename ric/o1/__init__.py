"""O1, as far as alarms: the active list, its REST view and VES fault events."""
