package trial

import "github.com/fusegate/fusegate/pkg/engine"

// Engine is what judges, with the referential data of the manifests.
func (t *Trial) Engine() *engine.Engine { return t.engine }
