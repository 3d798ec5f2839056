"""Networks that encoders, decoders and discriminators share."""
