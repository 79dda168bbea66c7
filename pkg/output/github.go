package output

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// What GitHub's runner unescapes in the message of a workflow command, and in
// its properties (actions/toolkit, packages/core/src/command.ts).
var (
	commandText     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	commandProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// github writes workflow commands, which show at the lines of a pull request.
func (r Report) github(w io.Writer) error {
	for _, f := range r.Findings {
		message := f.Object.String() + ": " + f.Message
		if f.Fault {
			message = f.Object.String() + " could not be judged: " + f.Message
		}
		if err := command(w, f.level(), f.Object.File, f.Object.Line, f.Constraint.String(), message); err != nil {
			return err
		}
	}
	for _, p := range r.Problems {
		if err := command(w, "error", p.File, p.Line, "fusegate", p.Message); err != nil {
			return err
		}
	}
	return nil
}

// level is what GitHub calls an action.
func (f Finding) level() string {
	levels := map[string]string{"warn": "warning", "dryrun": "notice"}
	if f.Fault {
		return "error"
	}
	return cmp.Or(levels[f.Action], "error")
}

func command(w io.Writer, level, file string, line int, title, message string) error {
	var properties []string
	if file != "" {
		properties = append(properties, "file="+commandProperty.Replace(file))
	}
	if line > 0 {
		properties = append(properties, fmt.Sprintf("line=%d", line))
	}
	properties = append(properties, "title="+commandProperty.Replace(title))
	_, err := fmt.Fprintf(w, "::%s %s::%s\n", level, strings.Join(properties, ","), commandText.Replace(message))
	return err
}

// Annotate writes a workflow command of a level: error, warning or notice. Line 0
// is the file as a whole.
func Annotate(w io.Writer, level, file string, line int, title, message string) error {
	return command(w, level, file, line, title, message)
}
