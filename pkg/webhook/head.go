package webhook

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

// maxHead is how much of a body is looked through for its head, in bytes. A user may
// be in many groups.
const maxHead = 64 << 10

// head is what comes before the objects in an AdmissionReview as API servers write
// it: the fields in the order of k8s.io/api/admission/v1. It is read before there is
// room for the rest, and says whose load a request is.
type head struct {
	uid string
	policy.Review
	// object is where the object begins in the body.
	object int
}

// scanHead reads the head of a body of which the rest may not be there yet. It is not
// found in what API servers do not write, of which nothing is judged by it.
func scanHead(body []byte) (h head, found bool) {
	s := scanner{text: body}
	s.object(func(name string) bool {
		if name != "request" {
			return s.skip()
		}
		s.object(func(name string) bool {
			switch name {
			case "object", "oldObject":
				h.object, found = s.at, true
				return false
			}
			return s.field(&h, name)
		})
		return false
	})
	return h, found && h.uid != ""
}

// scanObject reads the name and the UID of an object that is all there: an API server
// has given it both before it asks, even if it is to be created by a generateName.
func scanObject(text []byte) (name, uid string) {
	s := scanner{text: text}
	s.object(func(field string) bool {
		if field != "metadata" {
			return s.skip()
		}
		s.object(func(field string) bool {
			start := s.at
			if !s.skip() {
				return false
			}
			switch value := s.text[start:s.at]; field {
			case "name":
				return json.Unmarshal(value, &name) == nil
			case "uid":
				return json.Unmarshal(value, &uid) == nil
			}
			return true
		})
		return false
	})
	return name, uid
}

// field reads one field of the request.
func (s *scanner) field(h *head, name string) bool {
	start := s.at
	if !s.skip() {
		return false
	}
	text := s.text[start:s.at]
	switch name {
	case "uid":
		return read(text, &h.uid)
	case "kind":
		var kind metav1.GroupVersionKind
		ok := read(text, &kind)
		h.Kind = schema.GroupVersionKind(kind)
		return ok
	case "resource":
		var resource metav1.GroupVersionResource
		ok := read(text, &resource)
		h.Resource = schema.GroupVersionResource(resource)
		return ok
	case "subResource":
		return read(text, &h.SubResource)
	case "name":
		return read(text, &h.Name)
	case "namespace":
		return read(text, &h.Namespace)
	case "operation":
		return read(text, &h.Operation)
	case "userInfo":
		return read(text, &h.UserInfo)
	}
	return true
}

// read decodes a value, a plain string at once.
func read[T any](text []byte, to *T) bool {
	if s, ok := any(to).(*string); ok && len(text) > 1 && text[0] == '"' && bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		*s = string(text[1 : len(text)-1])
		return true
	}
	return json.Unmarshal(text, to) == nil
}

// scanner walks over JSON. Its methods return false where the text ends, or is not
// what they look for.
type scanner struct {
	text []byte
	at   int
}

// next returns the first byte that is no space and goes past it, 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch c {
		case ' ', '\n', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

// object calls field for each field, at its value, until it returns false.
func (s *scanner) object(field func(name string) bool) bool {
	if s.next() != '{' {
		return false
	}
	for {
		if s.next() != '"' {
			return false // also for the end of an empty object: heads have none
		}
		start := s.at
		if !s.quoted() {
			return false
		}
		name := string(s.text[start : s.at-1])
		if s.next() != ':' || !field(name) {
			return false
		}
		switch s.next() {
		case ',':
		case '}':
			return true
		default:
			return false
		}
	}
}

// quoted goes past the end of a string that has begun.
func (s *scanner) quoted() bool {
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch c {
		case '\\':
			s.at++
		case '"':
			return true
		}
	}
	return false
}

// skip goes past a value. What is not JSON may be taken for a value.
func (s *scanner) skip() bool {
	depth := 0
	for {
		switch c := s.next(); c {
		case 0:
			return false
		case '"':
			if !s.quoted() {
				return false
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':':
			continue
		default:
			for s.at < len(s.text) && !delimits(s.text[s.at]) {
				s.at++
			}
			if s.at == len(s.text) {
				return false
			}
		}
		if depth <= 0 {
			return depth == 0
		}
	}
}

func delimits(c byte) bool {
	switch c {
	case ',', ':', '}', ']', ' ', '\n', '\t', '\r':
		return true
	}
	return false
}
