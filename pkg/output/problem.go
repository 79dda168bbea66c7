package output

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Problem is what is wrong at a place: an error that says where to look. In JSON
// and YAML its error is the message.
type Problem struct {
	// File is where it is; empty if it is nowhere in particular.
	File string
	// Line counts from 1; 0 is the file as a whole.
	Line int
	Err  error
}

// Error starts with the place, as compilers have it.
func (p Problem) Error() string {
	if p.File == "" {
		return p.Message()
	}
	return Place(p.File, p.Line) + ": " + p.Message()
}

// Message is the error without its place.
func (p Problem) Message() string {
	if p.Err == nil {
		return ""
	}
	return p.Err.Error()
}

// Unwrap returns the error without its place.
func (p Problem) Unwrap() error { return p.Err }

// encodedProblem is a Problem as it is written.
type encodedProblem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
}

// MarshalJSON implements json.Marshaler.
func (p Problem) MarshalJSON() ([]byte, error) {
	return encode(encodedProblem{p.File, p.Line, p.Message()})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Problem) UnmarshalJSON(text []byte) error {
	var e encodedProblem
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	*p = Problem{File: e.File, Line: e.Line, Err: errors.New(e.Message)}
	return nil
}

// Place writes a file and a line as editors and terminals understand them.
func Place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// Problems takes an error apart into what it joins and the places of that. What
// has no place is a Problem without one.
func Problems(err error) []Problem {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []Problem
		for _, e := range many.Unwrap() {
			out = append(out, Problems(e)...)
		}
		return out
	}
	var p Problem
	if errors.As(err, &p) {
		return []Problem{p}
	}
	return []Problem{{Err: err}}
}
