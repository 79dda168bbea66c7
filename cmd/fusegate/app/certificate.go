package app

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/servingcert"
)

// addRotation keeps the authority, the serving certificate and the configuration's
// caBundle. It is for the cluster; outside, the certificate is the operator's.
func (p *parts) addRotation() error {
	if !p.settings.RotateCerts {
		return nil
	}
	touched, err := p.watchConfiguration()
	if err != nil {
		return err
	}
	ns := p.settings.Namespace
	host := install.ServiceName + "." + ns + ".svc"
	return p.mgr.Add(servingcert.NewRotator(servingcert.RotatorOptions{
		Client: p.mgr.GetClient(), Live: p.mgr.GetAPIReader(),
		Authority:     types.NamespacedName{Namespace: ns, Name: install.AuthoritySecretName},
		Serving:       types.NamespacedName{Namespace: ns, Name: install.CertSecretName},
		Configuration: install.ConfigurationName,
		Entries:       []string{string(exempt.PolicyEntry), string(exempt.EngineEntry), string(exempt.ProbeEntry)},
		Names:         []string{host, host + ".cluster.local"},
		Touched:       touched, Announce: p.announce(), Timings: p.timings, Log: p.log.WithName("certificates"),
	}))
}
