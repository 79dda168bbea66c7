package config

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"unicode/utf16"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Parse reads a configuration file, or what the ConfigMap holds, in YAML or
// JSON. It is strict: it refuses what is no setting, keys in another case,
// values of the wrong type and versions that it does not know, so that a typing
// error does not leave an exemption out unnoticed. It neither fills in defaults
// nor validates.
func Parse(text []byte) (Config, error) {
	values, err := Values(text)
	if err != nil {
		return Config{}, err
	}
	var c Config
	return c, decode(values, &c, strict)
}

// Values is what a file says, by key, to be put together with what other
// sources say and given to Merged. Its errors are those of Parse.
func Values(text []byte) (map[string]any, error) {
	values, err := document(text)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(values); err != nil {
		return nil, err
	}
	delete(values, "apiVersion")
	delete(values, "kind")
	return values, decode(values, &Config{}, strict)
}

// Merged makes a Config of what files, variables and flags say, by key. Keys
// may have any case, and values be strings as the environment has them: lists
// with commas, in quotes where an item holds one. What a variable has of the
// wrong type is refused by the variable's name, since files and flags are
// checked before. It neither fills in defaults nor validates.
func Merged(values map[string]any) (Config, error) {
	var c Config
	return c, decode(values, &c, lenient)
}

// Keys lists the keys of values that are settings, as they are written in a
// file, sorted. Keys may have any case.
func Keys(values map[string]any) []string {
	var out []string
	for given, value := range values {
		if key := known(reflect.TypeFor[Config](), given); key != "" && value != nil {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// document reads YAML of one document. Others that say nothing do not count.
func document(text []byte) (map[string]any, error) {
	var values map[string]any
	r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(plain(text))))
	for {
		part, err := r.Read()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		var content any
		if err := yaml.UnmarshalStrict(part, &content); err != nil {
			return nil, err
		}
		keys, ok := content.(map[string]any)
		switch {
		case content == nil:
			continue
		case !ok:
			return nil, errors.New(`holds no keys; write them as in "timeoutSeconds: 2"`)
		case values != nil:
			return nil, errors.New("holds more than one YAML document; only one is possible")
		}
		values = keys
	}
}

// plain is text without what editors of Windows put in.
func plain(text []byte) []byte {
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		text = fromUTF16(text[2:], binary.LittleEndian)
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		text = fromUTF16(text[2:], binary.BigEndian)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
}

func fromUTF16(text []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, len(text)/2)
	for i := range units {
		units[i] = order.Uint16(text[2*i:])
	}
	return []byte(string(utf16.Decode(units)))
}

// checkVersion refuses versions that this one does not know. A file without one
// is of the time before there were any, and read as v1alpha1.
func checkVersion(values map[string]any) error {
	version, versioned := values["apiVersion"]
	kind, kinded := values["kind"]
	switch {
	case versioned && version != APIVersion:
		return fmt.Errorf("apiVersion: %#v: is not a version of the settings that this fusegate reads; write %s, or use a fusegate that knows that version", version, APIVersion)
	case versioned && !kinded:
		return fmt.Errorf("kind: is missing beside apiVersion; write kind: %s", Kind)
	case kinded && !versioned:
		return fmt.Errorf("apiVersion: is missing beside kind; write apiVersion: %s", APIVersion)
	case kinded && kind != Kind:
		return fmt.Errorf("kind: %#v: is not the kind of a configuration file; write kind: %s", kind, Kind)
	}
	return nil
}
