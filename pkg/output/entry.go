package output

// class tells what an entry is.
type class int

const (
	// found is something that was looked for.
	found class = iota
	// missing is something that could not be looked at.
	missing
	// remark is worth knowing, and neither.
	remark
)

// entry is one thing that was found, as programs that show findings take it.
type entry struct {
	class class
	level Level
	// rule is what it was found by; zero if that is nothing in particular.
	rule rule
	// at is where, as far as that is known.
	at Object
	// subject is what the message is about; empty if the message says so.
	subject, message string
}

// rule is what entries are found by.
type rule struct{ id, name, text string }

// title is what stands above the message.
func (e entry) title() string {
	if e.rule.id == "" {
		return "fusegate"
	}
	return e.rule.id
}

// text is the message with what it is about. named tells that it is shown beside
// the rule.
func (e entry) text(named bool) string {
	switch {
	case e.subject == "":
		return e.message
	case e.class != missing:
		return e.subject + ": " + e.message
	case named || e.rule.id == "":
		return e.subject + " could not be judged: " + e.message
	}
	return e.subject + " could not be judged by " + e.rule.id + ": " + e.message
}

func (p Problem) entry() entry {
	return entry{class: missing, level: Error, at: Object{File: p.File, Line: p.Line}, message: p.Message()}
}
