package match

import (
	"errors"
	"strings"
)

var errInnerStar = errors.New(`"*" may stand only at the start, at the end, or both; list the names one by one instead`)

// glob is a pattern whose only wildcard is a star at the start, at the end or
// at both.
type glob struct {
	text                 string
	openStart, openEnded bool
}

func parseGlob(pattern string) (glob, error) {
	g := glob{text: pattern}
	g.text, g.openStart = strings.CutPrefix(g.text, "*")
	// A lone star is open at both ends.
	g.openEnded = g.openStart && g.text == ""
	if trimmed, ok := strings.CutSuffix(g.text, "*"); ok {
		g.text, g.openEnded = trimmed, true
	}
	if strings.Contains(g.text, "*") {
		return glob{}, errInnerStar
	}
	return g, nil
}

func (g glob) match(name string) bool {
	switch {
	case g.openStart && g.openEnded:
		return strings.Contains(name, g.text)
	case g.openStart:
		return strings.HasSuffix(name, g.text)
	case g.openEnded:
		return strings.HasPrefix(name, g.text)
	default:
		return name == g.text
	}
}

// matchGenerated matches the fixed part of a name whose end the API server has
// yet to choose, which only a pattern with an open end can.
func (g glob) matchGenerated(generateName string) bool {
	return g.openEnded && generateName != "" && g.match(generateName)
}

// globs is a list of patterns of which one must match.
type globs struct {
	// written is the list as declared.
	written []string
	exact   set
	open    []glob
}

func (g globs) empty() bool { return len(g.written) == 0 }

func (g globs) match(name string) bool {
	if _, ok := g.exact[name]; ok {
		return true
	}
	for _, o := range g.open {
		if o.match(name) {
			return true
		}
	}
	return false
}

// add takes a pattern into the list.
func (g *globs) add(pattern string) error {
	parsed, err := parseGlob(pattern)
	if err != nil {
		return err
	}
	g.written = append(g.written, pattern)
	if parsed.openStart || parsed.openEnded {
		g.open = append(g.open, parsed)
		return nil
	}
	if g.exact == nil {
		g.exact = set{}
	}
	g.exact[pattern] = struct{}{}
	return nil
}

// String writes the pattern; the one that was parsed, but for stars that say
// nothing.
func (g glob) String() string {
	var start, end string
	if g.openStart {
		start = "*"
	}
	if g.openEnded && g.text+start != "*" {
		end = "*"
	}
	return start + g.text + end
}
