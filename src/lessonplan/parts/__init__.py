"""What a plan is made of: the ground on which selections, orders and mixes stand."""
