package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// authorityPoll is how often an authority is looked for that could not be used
// when the certificate was read: the files may come one by one.
const authorityPoll = 10 * time.Second

// authorityName and authorityOrganization are the subject of the authority that
// the rotation makes.
const authorityName, authorityOrganization = "fusegate-ca", "fusegate"

// leaf is the certificate that the webhook presents. Rotation makes RSA keys, and
// a handshake with one costs as much as several reviews: after a pause of the
// network, or of this process, API servers open connections by the hundred. So
// where the key of the rotation's authority lies beside the certificate, as in its
// Secret, leaf signs a certificate for an ECDSA key: the rotation has the API
// server trust that authority. In all other cases, where it may be the certificate
// itself that is trusted, it is the one in the files, which are read again when
// they change.
type leaf struct {
	dir     string
	log     logr.Logger
	poll    time.Duration
	watcher *certwatcher.CertWatcher
	minted  atomic.Pointer[minted]
	why     string // none was minted, as last logged
}

// minted is a certificate that stands for that of the files while it is the one
// that they hold, so that no client sees one of an authority that is gone.
type minted struct {
	file, own *tls.Certificate
}

func newLeaf(dir string, log logr.Logger) *leaf {
	return &leaf{dir: dir, log: log, poll: authorityPoll}
}

// load reads the files, and makes a certificate if it can. It comes first.
func (l *leaf) load() (err error) {
	l.watcher, err = certwatcher.New(filepath.Join(l.dir, "tls.crt"), filepath.Join(l.dir, "tls.key"))
	if err != nil {
		return fmt.Errorf("reading the serving certificate: %w", err)
	}
	l.refresh()
	return nil
}

// follow keeps up with the files until ctx ends.
func (l *leaf) follow(ctx context.Context) {
	changed := make(chan struct{}, 1)
	l.watcher.RegisterCallback(func(tls.Certificate) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		if err := l.watcher.Start(ctx); err != nil {
			l.log.Error(err, "watching the serving certificate")
		}
	})
	tick := time.NewTicker(l.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		l.refresh()
	}
}

// refresh makes a certificate, if there is none for what the files hold now.
func (l *leaf) refresh() {
	file, _ := l.watcher.GetCertificate(nil) // it has been read, and gives no errors
	if m := l.minted.Load(); m != nil && m.file == file {
		return
	}
	own, err := l.mint(file)
	if err != nil {
		if why := err.Error(); why != l.why {
			l.why = why
			l.log.Info("presenting the serving certificate of the files", "reason", why)
		}
		return
	}
	l.why = ""
	l.minted.Store(&minted{file: file, own: own})
	l.log.Info("presenting a serving certificate of the files' authority, with an ECDSA key", "notAfter", own.Leaf.NotAfter)
}

// GetCertificate is for tls.Config. Clients that know RSA only get the files'.
func (l *leaf) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	file, err := l.watcher.GetCertificate(hello)
	if m := l.minted.Load(); m != nil && m.file == file && hello.SupportsCertificate(m.own) == nil {
		return m.own, nil
	}
	return file, err
}

func (l *leaf) mint(file *tls.Certificate) (*tls.Certificate, error) {
	if _, ok := file.PrivateKey.(*rsa.PrivateKey); !ok {
		return nil, errors.New("its key is not RSA")
	}
	ca, err := tls.LoadX509KeyPair(filepath.Join(l.dir, "ca.crt"), filepath.Join(l.dir, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("reading its authority: %w", err)
	}
	return mint(file, &ca)
}

// mint makes a certificate that clients take if they take that of the file: of
// the same authority, for the same names, times and uses. Its key stays in
// memory.
func mint(file, ca *tls.Certificate) (*tls.Certificate, error) {
	theirs, err := x509.ParseCertificate(file.Certificate[0])
	if err != nil {
		return nil, err
	}
	issuer, err := x509.ParseCertificate(ca.Certificate[0])
	if err != nil {
		return nil, err
	}
	template, err := likeness(theirs, issuer)
	if err != nil {
		return nil, fmt.Errorf("following tls.crt: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), ca.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("signing with ca.key: %w", err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := vouched(own, issuer); err != nil {
		return nil, fmt.Errorf("verifying what ca.key has signed: %w", err)
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, file.Certificate[1:]...), PrivateKey: key, Leaf: own}, nil
}

// likeness is what to sign in place of a certificate. An ECDSA key enciphers
// nothing (RFC 8813), and CreateCertificate gives a random serial number.
func likeness(of, issuer *x509.Certificate) (*x509.Certificate, error) {
	if of.IsCA {
		return nil, errors.New("it is an authority itself")
	}
	if of.KeyUsage != 0 && of.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, errors.New("its key may not sign")
	}
	if err := vouched(of, issuer); err != nil {
		return nil, err
	}
	if s := issuer.Subject; s.CommonName != authorityName || !slices.Contains(s.Organization, authorityOrganization) {
		return nil, fmt.Errorf("its authority, %s, is not the rotation's", s)
	}
	end := of.NotAfter
	if issuer.NotAfter.Before(end) {
		end = issuer.NotAfter
	}
	return &x509.Certificate{
		RawSubject:            of.RawSubject,
		DNSNames:              of.DNSNames,
		IPAddresses:           of.IPAddresses,
		EmailAddresses:        of.EmailAddresses,
		URIs:                  of.URIs,
		NotBefore:             of.NotBefore,
		NotAfter:              end,
		KeyUsage:              of.KeyUsage &^ (x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment),
		ExtKeyUsage:           of.ExtKeyUsage,
		UnknownExtKeyUsage:    of.UnknownExtKeyUsage,
		BasicConstraintsValid: of.BasicConstraintsValid,
	}, nil
}

// vouched says why a client that trusts nothing but issuer would not take a
// certificate, at a time when both are valid.
func vouched(c, issuer *x509.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(issuer)
	at := c.NotBefore
	if issuer.NotBefore.After(at) {
		at = issuer.NotBefore
	}
	_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}
