package output

import (
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

// commands are what GitHub calls the levels.
var commands = map[Level]string{Error: "error", Warning: "warning", Note: "notice"}

// writeGitHub writes workflow commands, which show at the lines of a pull
// request.
func writeGitHub(w io.Writer, r Result) error {
	for e := range r.entries() {
		var properties []string
		if e.at.File != "" {
			properties = append(properties, "file="+commandProperty.Replace(e.at.File))
		}
		if e.at.Line > 0 {
			properties = append(properties, fmt.Sprintf("line=%d", e.at.Line))
		}
		properties = append(properties, "title="+commandProperty.Replace(e.title()))
		_, err := fmt.Fprintf(w, "::%s %s::%s\n", commands[e.level], strings.Join(properties, ","), commandText.Replace(e.text(true)))
		if err != nil {
			return err
		}
	}
	return nil
}
