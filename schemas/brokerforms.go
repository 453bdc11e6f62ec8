package schemas

// The calls that every job needs, field by field. The rare ones are left to the library.

// walk visits the fields of a sealed call.
func (c *SealedCall) walk(f *form) {
	f.fields(3)
	unsigned(f, &c.Version)
	f.octets(&c.Ticket)
	f.octets(&c.Sealed)
}

// walk visits the fields of a sealed reply.
func (r *SealedReply) walk(f *form) {
	f.fields(2)
	unsigned(f, &r.Version)
	f.octets(&r.Sealed)
}

// walk visits the fields of a grant call.
func (c *GrantCall) walk(f *form) {
	f.fields(3)
	signed(f, &c.Sent)
	list(f, &c.Encs, (*form).octets)
	list(f, &c.Jobs, func(f *form, j *GrantJob) { j.walk(f) })
}

// walk visits the fields of a job in a grant call.
func (j *GrantJob) walk(f *form) {
	f.fields(9)
	j.Attributes.walk(f)
	unsigned(f, &j.Mode)
	unsigned(f, &j.Enc)
	unsigned(f, &j.Index)
	f.octets(&j.Wrapped)
	f.fixed(j.Commit[:])
	f.fixed(j.Payload[:])
	f.fixed(j.Recipients[:])
	f.octets(&j.Spend)
}

// walk visits the attributes of a job.
func (a *AttributeFields) walk(f *form) {
	f.fields(10)
	str(f, &a.ID)
	str(f, &a.Tenant)
	signed(f, &a.Time)
	str(f, &a.Model)
	str(f, &a.Class)
	str(f, &a.Key)
	signed(f, &a.Expiry)
	f.fixed(a.Policy[:])
	signed(f, &a.Budget)
	signed(f, &a.Attempts)
}

// walk visits the answers to a call.
func (r *GrantReply) walk(f *form) {
	f.fields(1)
	list(f, &r.Jobs, func(f *form, a *GrantAnswer) { a.walk(f) })
}

// walk visits the fields of one answer.
func (a *GrantAnswer) walk(f *form) {
	f.fields(3)
	a.Refusal.walk(f)
	str(f, &a.Grant)
	f.octets(&a.Content)
}

// walk visits the fields of a refusal.
func (r *Refusal) walk(f *form) {
	f.fields(4)
	unsigned(f, &r.Kind)
	str(f, &r.Field)
	str(f, &r.Message)
	unsigned(f, &r.RetryAfter)
}

// walk visits the fields of a renew call.
func (c *RenewCall) walk(f *form) {
	f.fields(2)
	signed(f, &c.Sent)
	list(f, &c.Jobs, func(f *form, j *RenewJob) { j.walk(f) })
}

// walk visits the fields of one renewal.
func (j *RenewJob) walk(f *form) {
	f.fields(2)
	str(f, &j.Grant)
	unsigned(f, &j.End)
}
