"""Encoders: tokens to q(z|x). Each file registers one."""
