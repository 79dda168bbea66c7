package config

import (
	"fmt"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// The version of the settings, and their kind. A file that has neither is read
// as this version.
const (
	APIVersion = "config.fusegate.dev/v1alpha1"
	Kind       = "Configuration"
)

// YAML writes what is in force of the settings of the installation, every one
// of them, as Parse reads it. What is each process's own is left out, and so is
// what follows from the namespace. Equal configurations give equal bytes.
func (c Config) YAML() ([]byte, error) {
	c = c.WithDefaults()
	out := map[string]any{"apiVersion": APIVersion, "kind": Kind}
	for _, s := range settings {
		if s.PerProcess == "" {
			out[s.Key] = written(s.Of(c))
		}
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	return text, nil
}

// written is a value as it stands in a file.
func written(value any) any {
	switch v := value.(type) {
	case time.Duration:
		return v.String()
	case []string:
		return append([]string{}, v...) // [] and not null where there are none
	case []byte:
		return append([]byte{}, v...)
	case exempt.Options:
		v.OwnNamespace = "" // it is the namespace's
		return v
	}
	return value
}
