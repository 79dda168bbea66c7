package engine

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Reads is what of a review a template's code may read, judged by its text: it
// may say too much, never too little.
type Reads struct {
	// Namespace is the Namespace object that the reviewed object lives in.
	Namespace bool
	// Request is what only a request has, sorted: of "oldObject", "operation",
	// "options" and "userInfo". Audit, which has no request, sees them empty.
	Request []string
}

// inputUse is each mention of input, with what of it is read where the text
// says so plainly.
var inputUse = regexp.MustCompile(`\binput\b(?:\.(parameters\b)|\.review\.(\w+))?`)

var requestFields = []string{"oldObject", "operation", "options", "userInfo"}

func readsOf(t *Template) Reads {
	var texts []string
	for i := range t.Spec.Targets {
		texts = appendTexts(texts, reflect.ValueOf(t.Spec.Targets[i]))
	}
	out := Reads{}
	for _, use := range inputUse.FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		switch {
		case use[1] != "":
		case use[2] == "namespaceObject", use[2] == "":
			out.Namespace = true // input or input.review as a whole, too
		}
		// The match would keep all of the text.
		if n := slices.Index(requestFields, use[2]); n >= 0 {
			out.Request = append(out.Request, requestFields[n])
		}
	}
	slices.Sort(out.Request)
	out.Request = slices.Compact(out.Request)
	return out
}

// appendTexts appends every string that v holds.
func appendTexts(out []string, v reflect.Value) []string {
	switch v.Kind() {
	case reflect.String:
		return append(out, v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return appendTexts(out, v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			out = appendTexts(out, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			out = appendTexts(out, v.MapIndex(key))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out = appendTexts(out, v.Field(i))
		}
	}
	return out
}
