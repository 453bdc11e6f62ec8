package access

// SpellPermissions spells a table as a configuration file at an indentation has it.
func SpellPermissions(p Permissions, depth int) string {
	c := &conf{depth: depth}
	c.permissions(p)
	return c.b.String()
}
