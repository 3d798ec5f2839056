"""How much an estimator of the policy gradient says per second."""
