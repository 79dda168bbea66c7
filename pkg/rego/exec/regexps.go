package exec

import (
	"regexp"
	"sync"
	"sync/atomic"
)

// maxRegexps is how many patterns a program keeps. Patterns come from policies
// and parameters, so that few programs have more; those that come from objects
// must not fill the memory.
const maxRegexps = 200

// regexps keeps compiled patterns. It is safe for concurrent use.
type regexps struct {
	compiled sync.Map // pattern to *regexp.Regexp
	size     atomic.Int32
}

func newRegexps() *regexps { return &regexps{} }

// get returns the compiled pattern, nil if it does not compile.
func (r *regexps) get(pattern string) *regexp.Regexp {
	if re, ok := r.compiled.Load(pattern); ok {
		return re.(*regexp.Regexp)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil
	}
	if r.size.Add(1) <= maxRegexps {
		r.compiled.Store(pattern, re)
	}
	return re
}
