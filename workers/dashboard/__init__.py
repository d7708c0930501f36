"""The page for people: how the fleet stands, with rq-dashboard, behind one login. Needs the extra `dashboard`."""
